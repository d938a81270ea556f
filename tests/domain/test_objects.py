"""The address of a bucket."""

from gateway.domain.objects import Bucket


def test_a_buckets_host_is_its_virtual_host_at_cos() -> None:
    assert Bucket("files-1250000000", "ap-guangzhou").host == "files-1250000000.cos.ap-guangzhou.myqcloud.com"
