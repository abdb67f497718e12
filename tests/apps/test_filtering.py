"""Options and limits of the quality filter belong together."""

import dataclasses

import pytest

from omnialpha.alphalayers.quality import Limits
from omnialpha.apps.filtering import Filter
from omnialpha.errors import InputError


def test_every_limit_is_an_option_with_the_same_default() -> None:
    assert Filter().limits() == Limits()
    assert {field.name for field in dataclasses.fields(Filter)} == {
        *(field.name for field in dataclasses.fields(Limits)),
        "aesthetic",
    }


def test_values_arrive_and_are_checked() -> None:
    assert Filter(distance=-1, keep_share=0.5).limits() == Limits(distance=-1, keep_share=0.5)
    with pytest.raises(InputError, match="most_contact is a share"):
        Filter(most_contact=30).limits()
