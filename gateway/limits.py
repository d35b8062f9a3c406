"""How much one user may ask for: token buckets by key, and sessions counted. Knows no transport."""

from collections import Counter, OrderedDict
from collections.abc import Hashable

import attrs
import trio

# Users whose buckets are remembered; who was forgotten begins with a full one.
REMEMBERED = 10_000


@attrs.define(eq=False)
class Bucket:
    """
    A token bucket: `rate` a second, `burst` at once.
    """

    rate: float
    burst: float
    _left: float = attrs.field(init=False)
    _at: float = attrs.field(init=False, factory=trio.current_time)

    def __attrs_post_init__(self) -> None:
        self._left = self.burst

    def take(self) -> float:
        """
        Take one token: 0 when there was one, else the seconds until there is.
        """
        now = trio.current_time()
        self._left = min(self.burst, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self.rate


@attrs.define(eq=False, kw_only=True)
class RateLimit:
    """
    One bucket for each key, the most recently used ones.
    """

    rate: float
    burst: float
    _buckets: OrderedDict[Hashable, Bucket] = attrs.field(factory=OrderedDict, init=False)

    def retune(self, rate: float, burst: float) -> None:
        """
        Fill all buckets so fast and so far from now on.
        """
        self.rate, self.burst = rate, burst
        for bucket in self._buckets.values():
            bucket.rate, bucket.burst = rate, burst

    def take(self, key: Hashable) -> float:
        """
        Take one of the key's tokens: 0 when there was one, else the seconds until there is.
        """
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self.rate, self.burst)
            if len(self._buckets) > REMEMBERED:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take()


@attrs.define(eq=False, kw_only=True)
class SessionLimit:
    """
    How many sessions there are, in all and of each user.
    """

    total: int
    per_user: int
    count: int = attrs.field(default=0, init=False)
    _of_user: Counter[str] = attrs.field(factory=Counter, init=False)

    def retune(self, total: int, per_user: int) -> None:
        """
        Let in so many from now on; those who are there stay, also when they are more.
        """
        self.total, self.per_user = total, per_user

    @property
    def is_full(self) -> bool:
        """
        Whether the node serves as many sessions as it may, whosever they are.
        """
        return self.count >= self.total

    def refusal(self, user: str) -> str | None:
        """
        Why one more session of this user is too many; None when it is not, and then it counts.
        """
        if self._of_user[user] >= self.per_user:
            return f"{user} has {self.per_user} sessions already"
        self.count += 1
        self._of_user[user] += 1
        return None

    def release(self, user: str) -> None:
        """
        A session of this user that counted has ended.
        """
        self.count -= 1
        self._of_user[user] -= 1
        if not self._of_user[user]:
            del self._of_user[user]
