"""The prompts of the data pipeline, word for word as in Appendix B.3 of the paper, and what its answers must be like.

The paper's listing is broken into narrow lines; here its sentences are whole again. How captions are appended to a
prompt is not printed there: it is done as the prompt's own example does, or as Qwen-Image-Edit's rewriter does.
"""

import json
import re

from omnialpha.errors import InputError

FOREGROUND_CAPTION = (
    "Describe the main subject of the image accurately and vividly in one concise English sentence "
    "(under 64 tokens), focusing on key visual details such as appearance, action, "
    "texture, or color. Do not mention the background."
)
"""With the foreground; the answer is its caption."""

COMPOSITE_CAPTION = (
    "You are a professional visual designer and prompt engineer. "
    "You are given both an image and its caption describing the main subject. "
    "Expand them into an English prompt suitable for an image editing model. "
    "Imagine a realistic environment that naturally suits the subject described in the caption, "
    "a place where this subject would plausibly exist or interact. "
    "Then describe the entire scene, integrating both the subject and its fitting surroundings. "
    "Use fluent English across 1-2 sentences, totaling around 40 words. No more than 50 words.\n\n"
    "Example:\n"
    "Caption: A red apple on a white plate.\n"
    "Prompt: In a cozy kitchen bathed in soft morning light, a rustic wooden table stands near a large window. "
    "On the table rests a white ceramic plate holding a shiny red apple, its surface catching "
    "the glow of sunlight and casting a faint shadow.\n\n"
)
"""With the foreground and its caption (`composite_prompt`); the answer is the composite's caption."""

REPLACE_INSTRUCTION = """\
# Edit Instruction Rewriter
You are a professional edit instruction rewriter.
Your task is to generate a precise, concise, and visually achievable professional-level edit instruction based on \
the user-provided instruction and the image to be edited.

---

## Task Context
All upcoming tasks are explicitly **background edit tasks**.
This means your rewriting should **only modify or enhance the background** of the image --
for example, adding environmental details, realistic lighting, materials, reflections, or spatial depth --
while **preserving the subject’s original position, posture, and identity**.
Do **not** change or imply motion, pose, or action of the subject.
Your rewritten prompt must always focus on creating a visually rich and coherent background scene.

**All rewritten results must begin with the phrase: "Replace the background with ..."**
This ensures consistency and helps the model produce precise, localized background edits.
---

Please strictly follow the rewriting rules below:

---

## Understanding Common Model Failure: “Plain Background Collapse”
Before rewriting, you must understand why diffusion-based edit models often generate visually flat, unrealistic \
outputs:

1. **Prompt Language Bias**

Phrases like “minimalist”, “clean”, “clinical”, “white surface”, “black backdrop”, or “soft light” tend to push the \
model toward high-key smooth color gradients, causing loss of structure and producing featureless lavender, gray, or \
white surfaces.

2. **Lack of Structural Guidance**
When users describe environments abstractly (e.g., “in a lab” or “in a studio”) without specifying geometry \
(benches, shelves, tools, reflections), the model treats the background as an undefined void rather than a tangible \
space.

3. **Single-Subject Isolation Bias**
Qwen-Image-Edit and similar pipelines overemphasize the main object (e.g., a vial, dropper, person), and if the \
surrounding region has low entropy, the denoising process collapses it into a flat gradient.

**→ Your rewriting must proactively prevent these failures.**
Every edited prompt should include clear spatial context, realistic lighting cues, and tangible environmental \
elements to maintain depth and richness.

---

## 1. General Principles
- Keep the rewritten prompt **concise**. Avoid overly long sentences and redundant adjectives.
- If the instruction is contradictory, vague, or unachievable, prioritize reasonable inference and correction, \
supplementing necessary details.
- Preserve the core intention of the user’s original request while enhancing clarity, rationality, and visual \
feasibility.
- All added objects or modifications must align with the logical style and composition of the input image.
- **Always ensure the rewritten prompt avoids placing any subject against a plain or solid-color background like \
“black”, “purple” and so on.** The background must contain environmental context, lighting, and spatial depth (e.g., \
reflections, surfaces, instruments, furniture, or scenery).
- **Never rewrite descriptive scenes into explicit actions or motion instructions.** Do not use verbs that imply \
human or object movement (e.g., “stand”, “walk”, “turn”, “raise”, “look at”). The output must remain a static visual \
scene description keeping original status, not a new behavioral or temporal action command.

---

## 2. Task Type Handling Rules

### 1. Add, Delete, Replace Tasks
- If the user’s intent is explicit, refine grammar only.
- If vague, supplement with minimal but sufficient details (category, color, size, orientation, position).

> Original: "Add an animal"
> Rewritten: "Add a light-gray cat in the bottom-right corner"

- Remove meaningless or impossible instructions (e.g., “Add 0 objects”).
- For replacements, always specify: “Replace Y with X” and describe X’s key visual traits.

---

### 2. Text Editing Tasks
- All text content must be enclosed in English double quotes `" "`.
- Keep the text’s original language and capitalization.
- Use the fixed replacement pattern:

- `Replace "xx" to "yy"`.
- `Replace the xx bounding box to "yy"`.

- If no text is specified, infer a short, context-fitting line.

> Example: "Add text "LIMITED EDITION" at the top center with soft shadow"

- Always mention text position, color, and layout succinctly.

---

### 3. Human Editing Tasks
- Maintain the subject’s original identity and consistency (ethnicity, gender, age, hairstyle, outfit).
- Subtle, natural changes only -- no exaggerated expressions or unrealistic alterations.
- Preserve key subjects unless deletion is clearly requested.
- For background edits, first ensure the main person or object remains visually coherent. Do not use verbs that \
imply object movement, like “stand”.

> Example: "Replace the man’s hat with a dark brown beret; keep smile, short hair, and gray jacket unchanged."

---

### 4. Style Transformation or Enhancement Tasks
- Describe styles concisely with key traits:

> “1970s disco: flashing lights, disco ball, mirrored walls, colorful tones.”

- For “use reference style” or “keep current style,” extract dominant visual traits from the input image (color \
palette, texture, composition, lighting).
- For photo restoration tasks, always use:

`"Restore old photograph, remove scratches, reduce noise, enhance details, high resolution, realistic, natural skin \
tones, clear facial features, no distortion, vintage photo restoration."`

- **Never describe or imply a plain, minimal, or single-color background.** Always reinforce realistic environmental \
context and depth.

---

## 3. Rationality and Logic Checks
- Resolve contradictions logically.
- Add missing context: if position or environment is unspecified, infer a balanced and visually coherent setting.
- **If background description is missing or described as plain color, infer a suitable contextual environment (e.g., \
laboratory counter, office interior, natural landscape, or relevant setting) to ensure realism and depth.**

---

# Output Format Example
```json
{
    "Rewritten": "..."
}
```
"""
"""With the foreground and the composite's caption (`replace_prompt`); the answer is JSON, which `rewritten` reads."""

BACKGROUND_CAPTION = (
    "Describe the scene of the image accurately and vividly in one concise English sentence "
    "(under 64 tokens), focusing on key visual details such as appearance, action, "
    "texture, or color."
)
"""With the background; the answer is its caption."""

OPENING = "Replace the background with"
"""What an instruction begins with."""


def composite_prompt(caption: str) -> str:
    r"""Append a foreground's caption as the example inside the prompt does.

    Args:
        caption: What the foreground shows.

    >>> composite_prompt("A kite.").endswith("faint shadow.\n\nCaption: A kite.\nPrompt:")
    True
    """
    return f"{COMPOSITE_CAPTION}Caption: {caption}\nPrompt:"


def replace_prompt(caption: str) -> str:
    r"""Append a composite's caption as Qwen-Image-Edit's rewriter does.

    Args:
        caption: What the composite is to show.

    >>> replace_prompt("A kite over a beach.").endswith("\n\nUser Input: A kite over a beach.\n\nRewritten Prompt:")
    True
    """
    return f"{REPLACE_INSTRUCTION}\nUser Input: {caption}\n\nRewritten Prompt:"


def rewritten(reply: str) -> str:
    """Take the instruction out of a model's reply.

    Args:
        reply: JSON with the key "Rewritten", alone or in a fenced block.

    Returns:
        The instruction.

    Raises:
        InputError: Anything else; the message can be sent back to the model as it is.

    >>> rewritten('{"Rewritten": "Replace the background with a sunny beach."}')
    'Replace the background with a sunny beach.'
    """
    fenced = re.fullmatch(r"\s*```(?:json)?\s*(.*?)\s*```\s*", reply, flags=re.DOTALL)
    try:
        answer = json.loads(fenced[1] if fenced else reply)
    except ValueError as error:
        raise InputError(
            f'the reply is no JSON ({error}); answer with {{"Rewritten": "..."}} and nothing else'
        ) from error
    instruction = answer.get("Rewritten") if isinstance(answer, dict) else None
    if not isinstance(instruction, str):
        raise InputError('the JSON has no text under "Rewritten"; answer with {"Rewritten": "..."} and nothing else')
    if not instruction.strip().startswith(OPENING):
        raise InputError(f'the instruction begins with "{instruction.strip()[:40]}"; begin it with "{OPENING}"')
    return instruction.strip()
