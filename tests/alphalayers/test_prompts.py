"""The prompts are the paper's, and only answers of the asked form are taken."""

import hashlib

import pytest

from omnialpha.alphalayers import prompts
from omnialpha.errors import InputError

# SHA-256 of the words of each prompt in the paper's PDF, joined by single spaces: line breaks are the listing's, not
# the prompt's.
PAPER = {
    "FOREGROUND_CAPTION": "b162a13d250ef1d71375f1a75270ec137e10d3abf5b271e3b34f42a42ef6d2ec",
    "COMPOSITE_CAPTION": "090557bb49b79d1e76ba70c02cc6e6e17c2e7729b5d646f962abf5c475fc80d1",
    "REPLACE_INSTRUCTION": "1a874d23a4482e4fa746110bab1e79e46fcdd85e91b316fbc981f853db1693e7",
    "BACKGROUND_CAPTION": "c4eb8c9e9ed085f9f4d3274f7e975859f5e15e6551c758d3909904916c6f501e",
}


@pytest.mark.parametrize("name", PAPER)
def test_prompts_are_word_for_word_the_papers(name):
    prompt = getattr(prompts, name)
    assert hashlib.sha256(" ".join(prompt.split()).encode()).hexdigest() == PAPER[name]


def test_sentences_of_the_long_prompt_are_whole():
    lines = prompts.REPLACE_INSTRUCTION.splitlines()
    assert "- If the user’s intent is explicit, refine grammar only." in lines
    assert '**All rewritten results must begin with the phrase: "Replace the background with ..."**' in lines
    assert not any("  " in line.strip() or line.endswith(" ") for line in lines)


@pytest.mark.parametrize(
    "reply",
    [
        '{"Rewritten": "Replace the background with a quiet harbour."}',
        '```json\n{"Rewritten": " Replace the background with a quiet harbour."}\n```\n',
        '```\n{\n  "Rewritten": "Replace the background with a quiet harbour."\n}\n```',
    ],
)
def test_the_instruction_is_taken_out_of_the_reply(reply):
    assert prompts.rewritten(reply) == "Replace the background with a quiet harbour."


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        ("Replace the background with a harbour.", r'no JSON .*answer with \{"Rewritten": "\.\.\."\}'),
        ('{"Rewritten": "Replace the back', "no JSON"),
        ('{"rewritten": "Replace the background with a harbour."}', 'no text under "Rewritten"'),
        ('["Replace the background with a harbour."]', 'no text under "Rewritten"'),
        ('{"Rewritten": 3}', 'no text under "Rewritten"'),
        ('{"Rewritten": "Put it into a harbour."}', 'begins with "Put it into a harbour."; begin it with "Replace the'),
    ],
)
def test_other_replies_are_answered_with_a_complaint(reply, complaint):
    with pytest.raises(InputError, match=complaint) as error:
        prompts.rewritten(reply)
    assert "\n" not in str(error.value)
