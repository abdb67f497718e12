"""Text inside files: names that XML can hold, and metadata as a packet of Adobe's XMP."""

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from omnialpha.formats import _checks

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that XML cannot express
NAMESPACE = "https://omnialpha.invalid/ns/1.0/"
"""Of our own elements and properties in XML: a name, not an address."""

_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:omnialpha="{namespace}">
   <omnialpha:metadata>{json}</omnialpha:metadata>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def for_xml(name: str, number: int) -> str:
    """A layer's name without what XML cannot hold; ``"Layer 3"`` where nothing is left."""
    return _NOT_XML.sub("", name) or f"Layer {number}"


def slug(name: str) -> str:
    """As much of a name as every file system takes.

    >>> slug("Red car (2)"), slug("玻璃杯")
    ('red-car-2', '')
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")


def to_xmp(metadata: Mapping[str, Any]) -> bytes:
    """Adobe's metadata packet with one property of ours, the JSON."""
    return _XMP.format(namespace=NAMESPACE, json=escape(json.dumps(dict(metadata)))).encode()


def from_xmp(packet: bytes | None, name: str) -> dict[str, Any]:
    """The metadata in a packet; empty when another program wrote it, or there is none.

    Raises:
        ImageError: It is not a JSON object.
    """
    if not packet or NAMESPACE.encode() not in packet:
        return {}
    text = ElementTree.fromstring(packet).findtext(f".//{{{NAMESPACE}}}metadata", "{}")
    return dict(_checks.mapping(json.loads(text), "metadata", name))
