"""How a page's blocks are read, run and compared: a block that fails, or prints something else, must not pass."""

import os
from pathlib import Path

import pytest

from tests.docs.blocks import Reader, blocks_of, pattern_of

PAGE = """
```console
$ rm -rf /
```

```sh
GREETING=hello
say() { echo "$GREETING $1"; }
say you
```

```text
hello …
```

```python
import os
print(os.environ["GREETING"])
```

```text
hello
```

```sh
say again
```
"""


def run(page: str, folder: Path) -> list[str]:
    reader = Reader(folder, {"PATH": os.environ["PATH"]})
    return [reader.run(block) for block in blocks_of(page)]


def test_blocks_run_in_their_order_in_one_shell(tmp_path: Path) -> None:
    assert run(PAGE, tmp_path) == ["hello you\n", "hello\n", "hello again\n"]


@pytest.mark.parametrize(
    "page",
    [
        "```sh\nfalse\necho done\n```\n",
        "```sh\nfalse | cat\n```\n",
        '```sh\necho "$NOT_SET"\n```\n',
        "```python\nraise SystemExit(1)\n```\n",
        "```sh\necho one\n```\n\n```text\ntwo\n```\n",
        "```sh\necho one; echo two\n```\n\n```text\none\n```\n",
        "```sh\necho one\n```\n\n```text\none\ntwo\n```\n",
    ],
)
def test_a_block_that_does_not_do_what_the_page_says_is_noticed(tmp_path: Path, page: str) -> None:
    with pytest.raises(AssertionError):
        run(page, tmp_path)


@pytest.mark.parametrize("page", ["```text\none\n```\n", "```sh\ntrue\n```\n```text\n```\n```text\n```\n"])
def test_output_of_nothing_is_noticed(page: str) -> None:
    with pytest.raises(ValueError, match="no block"):
        blocks_of(page)


@pytest.mark.parametrize(
    ("printed", "said", "expected"),
    [
        ("a…c\n", "abc\n", True), ("a…c\n", "ac\n", True), ("a…c\n", "a\nc\n", False),
        ("…\n", "", True), ("…\n", "a\nb\n", True), ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("a\n…\nd\n", "a\nb\n", False), ("a.c\n", "abc\n", False),
    ],
)  # fmt: skip
def test_placeholders(printed: str, said: str, expected: bool) -> None:
    assert bool(pattern_of(printed).fullmatch(said)) is expected
