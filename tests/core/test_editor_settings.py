"""An editor's settings with one line of ours."""

from __future__ import annotations

import pytest

from colabdev.core.editor_settings import has_platform, parse_settings, with_platform

OURS = '"remote.SSH.remotePlatform": {"gpu": "linux"}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{{\n    {OURS}\n}}\n"),
        ("{}", f"{{\n    {OURS}\n}}"),
        ('{\n    "a": 1\n}\n', f'{{\n    {OURS},\n    "a": 1\n}}\n'),
        ('{"remote.SSH.remotePlatform": {}}', "{" + OURS + "}"),
        (
            '{ // { "remote.SSH.remotePlatform": {\n "remote.SSH.remotePlatform": { "x": "macOS" }, }',
            '{ // { "remote.SSH.remotePlatform": {\n "remote.SSH.remotePlatform": {"gpu": "linux", '
            '"x": "macOS" }, }',
        ),
        (
            '/* ü */ {"s": "a,]\\"//{", "in": {"remote.SSH.remotePlatform": {}}, "l": [1,],}',
            "/* ü */ {\n    "
            + OURS
            + ',"s": "a,]\\"//{", "in": {"remote.SSH.remotePlatform": {}}, "l": [1,],}',
        ),
    ],
    ids=ascii,
)
def test_platform_is_put_in_and_the_rest_stays(before: str, after: str) -> None:
    changed = with_platform(before, "gpu")
    assert changed is not None
    assert changed == after
    assert has_platform(changed, "gpu")
    assert not has_platform(before, "gpu")
    both = with_platform(changed, "other")
    assert both is not None
    assert has_platform(both, "gpu")
    assert has_platform(both, "other")


@pytest.mark.parametrize(
    "text",
    ["[]", "{", "nonsense", '{"remote.SSH.remotePlatform": "linux"}', '{"a" 1}', '"{}"', "{}{}"],
)
def test_settings_that_are_odd_are_left_alone(text: str) -> None:
    assert with_platform(text, "gpu") is None


def test_comments_and_last_commas_are_no_part_of_the_settings() -> None:
    text = '{ // a\n "u": "http://x/*y*/", /* "b": 2, */ "l": [1, 2,], "o": {"p": ", }"},\n}'
    assert parse_settings(text) == {"u": "http://x/*y*/", "l": [1, 2], "o": {"p": ", }"}}
