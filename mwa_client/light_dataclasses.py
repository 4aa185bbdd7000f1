"""`dataclass` as in the standard library, but set up at its first use: all at once would slow each start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

__all__ = ["dataclass"]

if not TYPE_CHECKING:  # Type checkers know the standard library's, which is used in the same way.
    import sys
    import threading
    from dataclasses import MISSING, FrozenInstanceError, fields
    from operator import attrgetter
    from reprlib import recursive_repr

    make, making = dataclass, threading.RLock()
    NEW = type("New", (), {"__repr__": lambda self: "<factory>"})()
    """Stands in a signature for a value that is made anew for each object, as in the standard library."""
    since = {"__match_args__": (3, 10), "__replace__": (3, 13)}
    OF_NEWER = [name for name, version in since.items() if sys.version_info >= version]
    """What newer standard libraries set where a class does not have it."""
    MADE_LATER = ("__init__", "__dataclass_fields__", "__dataclass_params__", "_compared", *OF_NEWER)

    def dataclass(cls=None, *, frozen=False, eq=True):
        """Make a class a dataclass.

        The standard library writes and compiles six methods for each class as soon as it is there. Here that
        is done for ``__init__`` only, and not before somebody asks for it: a short run has objects of few
        classes. What compares, hashes, shows and guards an object are the same few lines for all classes.

        Parameters
        ----------
        frozen : bool
            Whether its objects cannot be changed, and can be hashed.
        eq : bool
            Whether two of its objects are equal where their fields are.
        """
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen, eq=eq)
        shared = {"__repr__": _show}
        if eq:
            shared.update(__eq__=_is_equal, __hash__=_hash if frozen else None)
        if frozen and cls.__setattr__ is not _set:
            shared.update(__setattr__=_set, __delattr__=_delete)
        for name, method in shared.items():
            if name not in vars(cls):
                setattr(cls, name, method)
        for name in MADE_LATER:
            setattr(cls, name, _MadeLater(cls, name, frozen))
        return cls

    class _MadeLater:
        """Stands for an attribute of a class that is not made yet: who asks for it has the class made."""

        def __init__(self, cls, name, frozen):
            self.cls = cls
            self.name = name
            self.frozen = frozen

        def __get__(self, instance, owner):
            with making:
                if vars(self.cls)[self.name] is self:  # No other thread has done it meanwhile.
                    _make_or_leave(self.cls, self.frozen)
            # Not what `instance` has under this name: it may be of a class that inherits, and has its own.
            made = vars(self.cls)[self.name]
            return made.__get__(instance, owner) if hasattr(made, "__get__") else made

    def _make_or_leave(cls, frozen):
        """Make a class; where that ends half way (a signal, no memory), leave it as it was."""
        before = dict(vars(cls))
        try:
            _make(cls, frozen)
        except BaseException:
            for name in vars(cls).keys() - before.keys():
                delattr(cls, name)
            for name, value in before.items():
                if vars(cls).get(name) is not value:
                    setattr(cls, name, value)
            raise

    def _make(cls, frozen):
        for name in OF_NEWER:
            delattr(cls, name)
        # To a class without a docstring the standard library gives its signature, which is not there yet.
        cls.__doc__ = cls.__doc__ or cls.__name__
        # Only frozen classes may inherit from a frozen one; those few are guarded by the standard library.
        make(cls, init=False, repr=False, eq=False, frozen=any(map(_is_frozen, cls.__bases__)))
        cls.__dataclass_params__.frozen = frozen
        names = [each.name for each in fields(cls) if each.compare]
        cls._compared = attrgetter(*names) if names else type
        cls.__init__ = _init_of(cls, frozen)  # Last: until then, other threads wait for it.

    def _is_frozen(cls):
        return getattr(cls, "__dataclass_params__", None) is not None and cls.__dataclass_params__.frozen

    def _init_of(cls, frozen):
        """Write the ``__init__`` of a class."""
        known, given, lines = {"_put": object.__setattr__, "_NEW": NEW}, ["self"], []
        for each in fields(cls):
            name, value, default = each.name, each.name, each.default
            if each.default_factory is not MISSING:
                known[f"_new_{name}"], default = each.default_factory, NEW
                value = f"_new_{name}() if {name} is _NEW else {name}"
            known[f"_{name}"] = default
            given.append(name if default is MISSING else f"{name}=_{name}")
            lines.append(f"_put(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
        if hasattr(cls, "__post_init__"):
            lines.append("self.__post_init__()")
        exec(f"def __init__({', '.join(given)}):\n " + "\n ".join(lines or ["pass"]), known)
        init = known["__init__"]
        init.__qualname__ = f"{cls.__qualname__}.__init__"
        init.__annotations__ = {each.name: each.type for each in fields(cls)} | {"return": None}
        return init

    @recursive_repr()
    def _show(self):
        shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _is_equal(self, other):
        return self._compared(self) == other._compared(other) if type(other) is type(self) else NotImplemented

    def _hash(self):
        return hash(self._compared(self))

    def _set(self, name, value):
        _guard(self, name, "assign to")
        object.__setattr__(self, name, value)

    def _delete(self, name):
        _guard(self, name, "delete")
        object.__delattr__(self, name)

    def _guard(self, name, deed):
        """Refuse a change; a class that inherits without being a dataclass may have more than the fields."""
        if "_compared" in vars(type(self)) or name in (each.name for each in fields(self)):
            raise FrozenInstanceError(f"cannot {deed} field {name!r}")
