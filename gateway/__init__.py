"""The upload gateway: front ends send files to it, and it streams them to Tencent COS."""

from typing import Final

VERSION: Final = "0.1.0"
