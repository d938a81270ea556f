"""Redis as people run it: a master with a replica behind three Sentinels, and a cluster of three masters. All real."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from tests.system.processes import Program, free_port, redis_server, wait_until

MASTER_NAME: Final = "main"
SLOTS: Final = 16384
_BUS: Final = 10_000
"""How far above its port a node of a cluster listens for the others."""


class RedisNode:
    """One redis-server on a TCP port of the loopback, which writes nothing down unless told to."""

    def __init__(self, folder: Path, port: int, *arguments: str, sentinel: bool = False) -> None:
        self.port = port
        self.client = redis.Redis(port=port, socket_timeout=5)
        self._folder = folder / str(port)
        self._folder.mkdir()
        plain = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
        own = self._sentinel(arguments) if sentinel else (*plain, *arguments)
        self._argv = [redis_server(), *own, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        self.start()

    def _sentinel(self, lines: Sequence[str]) -> tuple[str, ...]:
        config = self._folder / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n")
        return (str(config), "--sentinel")

    def start(self) -> None:
        self.program = Program(self._argv, self._folder / "redis.log")
        wait_until(self._answers, f"redis-server on port {self.port}")

    def info(self, section: str) -> dict[str, Any]:
        """INFO's fields."""
        told: Any = self.client.info(section)
        return dict(told)

    def say(self, *words: str | int) -> Any:
        """The reply to one command."""
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    def _answers(self) -> bool:
        self.program.alive_or_fail(f"redis-server on port {self.port}")
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def close(self) -> None:
        self.client.close()
        self.program.stop()


class SentinelSet:
    """A master, its replica, and three Sentinels of which two must agree."""

    def __init__(self, folder: Path) -> None:
        self._nodes: list[RedisNode] = []
        try:
            self.servers = [self._node(folder), self._node(folder)]
            master, replica = self.servers
            replica.say("REPLICAOF", "127.0.0.1", master.port)
            wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica")
            lines = (
                f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master.port} 2",
                f"sentinel down-after-milliseconds {MASTER_NAME} 500",
                f"sentinel failover-timeout {MASTER_NAME} 3000",
            )
            self.sentinels = [self._node(folder, *lines, sentinel=True) for _ in range(3)]
            wait_until(self._know_each_other, "the Sentinels")
        except BaseException:
            self.close()
            raise
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis+sentinel://{places}/{MASTER_NAME}/0"

    def _node(self, folder: Path, *arguments: str, sentinel: bool = False) -> RedisNode:
        self._nodes.append(RedisNode(folder, free_port(), *arguments, sentinel=sentinel))
        return self._nodes[-1]

    def _know_each_other(self) -> bool:
        known = [sentinel.info("sentinel")["master0"] for sentinel in self.sentinels]
        return all(one["sentinels"] == 3 and one["slaves"] == 1 and one["status"] == "ok" for one in known)

    @property
    def master(self) -> RedisNode:
        """The server that the Sentinels call the master."""
        _, port = self.sentinels[0].say("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        return next(server for server in self.servers if server.port == int(port))

    def wait_for_failover(self, old: RedisNode) -> float:
        """Until every Sentinel names another master than *old*, and it is one; the seconds it took."""
        return wait_until(lambda: self._has_failed_over(old), "the failover")

    def _has_failed_over(self, old: RedisNode) -> bool:
        ask = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        ports = {int(sentinel.say(*ask)[1]) for sentinel in self.sentinels}
        (new,) = [server for server in self.servers if server is not old]
        return ports == {new.port} and new.info("replication")["role"] == "master"

    def close(self) -> None:
        for node in reversed(self._nodes):
            node.close()


class ClusterSet:
    """Three masters that share the slots."""

    def __init__(self, folder: Path) -> None:
        self.nodes: list[RedisNode] = []
        try:
            for _ in range(3):
                arguments = ("--cluster-enabled", "yes", "--cluster-node-timeout", "15000")
                self.nodes.append(RedisNode(folder, free_port(_BUS), *arguments))
            self._join()
        except BaseException:
            self.close()
            raise
        self.url = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}/"

    def _join(self) -> None:
        for number, node in enumerate(self.nodes):
            node.say("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.say("CLUSTER", "ADDSLOTS", *range(number * SLOTS // 3, (number + 1) * SLOTS // 3))
            node.say("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait_until(self._is_whole, "the cluster")

    def _is_whole(self) -> bool:
        facts = [node.say("CLUSTER INFO") for node in self.nodes]
        links = b"".join(node.say("CLUSTER", "NODES") for node in self.nodes)
        return all(one["cluster_state"] == "ok" for one in facts) and links.count(b" connected") == len(self.nodes) ** 2

    def holder(self, slot: int) -> RedisNode:
        """The node that holds *slot*, as every node knows."""
        for first, last, master, *_ in self.nodes[0].say("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == master[1])
        raise AssertionError(f"nobody holds slot {slot}")

    def begin_to_move(self, slot: int) -> tuple[RedisNode, RedisNode]:
        """Open *slot* for moving; its holder and who is to hold it."""
        old = self.holder(slot)
        new = next(node for node in self.nodes if node is not old)
        new.say("CLUSTER", "SETSLOT", slot, "IMPORTING", _id_of(old))
        old.say("CLUSTER", "SETSLOT", slot, "MIGRATING", _id_of(new))
        return old, new

    def finish_moving(self, slot: int, old: RedisNode, new: RedisNode) -> None:
        """Move every key of *slot*, and the slot."""
        keys = old.say("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        if keys:
            old.say("MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "KEYS", *keys)
        for node in (new, old):
            node.say("CLUSTER", "SETSLOT", slot, "NODE", _id_of(new))

    def close(self) -> None:
        for node in self.nodes:
            node.close()


@contextmanager
def running_sentinels(folder: Path) -> Iterator[SentinelSet]:
    """A Sentinel set while the block lasts."""
    with closing(SentinelSet(folder)) as running:
        yield running


@contextmanager
def running_cluster(folder: Path) -> Iterator[ClusterSet]:
    """A cluster while the block lasts."""
    with closing(ClusterSet(folder)) as running:
        yield running


def _id_of(node: RedisNode) -> str:
    return str(node.say("CLUSTER", "MYID").decode())
