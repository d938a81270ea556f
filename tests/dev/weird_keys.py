"""Keys that a path, a query or a file system might spoil on the way."""

from typing import Final

WEIRD_KEYS: Final = (
    "a//b",
    "a/./b",
    "a/../../b",
    "..",
    " leading and trailing ",
    "plus+and space",
    "percent%2Fencoded%20twice%25",
    "'quo\"tes'()!*&?=#;:@$,<>[]{}|\\^`~",
    "中文/文件名.txt",
    "emoji-🎉.bin",
    "folder/",
    "a" * 850,
    "/".join("b" * 9 for _ in range(85)),
    "tab\tand\nnewline",
    ".keys/mine",
    ".meta",
    "e\u0301 is not \u00e9",
)
