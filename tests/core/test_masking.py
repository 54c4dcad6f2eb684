"""No secret survives masking, and nothing else is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.masking import MASK, is_secret_name, mask_text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://u:p@h:5432/d", f"postgresql://u:{MASK}@h:5432/d"),
        ("postgresql://u:p:q@r@h/d", f"postgresql://u:{MASK}@h/d"),
        ("could not reach kafka://u:p@h and http://a:b@c", f"could not reach kafka://u:{MASK}@h and http://a:{MASK}@c"),
        ("postgresql://h/d?password=p&sslmode=require", f"postgresql://h/d?password={MASK}&sslmode=require"),
        ("host=h password=p dbname=d", f"host=h password={MASK} dbname=d"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {MASK}"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:pa/ss#wd?x@h/d", f"postgresql://u:{MASK}@h/d"),
        ("postgresql://me@corp:p@h/d", f"postgresql://me@corp:{MASK}@h/d"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("http://h:80/a@b", f"http://h:{MASK}@b"),  # may be a password as well: rather too much than too little
        ("password='a b' user=u", f"password={MASK} user=u"),
        ("?password=pa'ss&x=y", f"?password={MASK}&x=y"),
        ("at 12:30 mail a@b", "at 12:30 mail a@b"),
        ("", ""),
    ],
)
def test_only_the_secret_part_is_masked(text, masked):
    assert mask_text(text) == masked


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=6))
def test_a_password_in_a_url_is_never_shown(password):
    assert mask_text(f"postgresql://u:{password}@h/d") == f"postgresql://u:{MASK}@h/d"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("token", True),
        ("sasl_password", True),
        ("Authorization", True),
        ("token_env", False),
        ("private_key_file", False),
        ("key_id", False),
        ("partitions", False),
    ],
)
def test_a_secret_is_known_by_its_name(name, secret):
    assert is_secret_name(name) is secret
