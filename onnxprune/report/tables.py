"""The README's tables, in Markdown, from plain data."""

from collections.abc import Iterable

__all__ = ["methods_table", "operators_table", "purposes_table"]


def methods_table(methods: Iterable[tuple[str, str]], how: str = "how channels are chosen") -> str:
    """Return the table of methods.

    Parameters
    ----------
    methods : iterable of (str, str)
        Name and summary of each.
    how : str
        What a summary says.

    Examples
    --------
    >>> print(methods_table([("l1", "largest weights first")]))
    | `--method` | how channels are chosen |
    |---|---|
    | `l1` | largest weights first |
    """
    return _table(("`--method`", how), [(f"`{name}`", summary) for name, summary in methods])


def operators_table(operators: Iterable[tuple[str, str, str]]) -> str:
    """Return the table of operators that have a rule.

    Parameters
    ----------
    operators : iterable of (str, str, str)
        Family, domain (empty for ONNX's own) and name of each; an operator may occur several times.

    Examples
    --------
    >>> print(operators_table([("linear", "", "Gemm"), ("linear", "", "Gemm"), ("fused", "com.microsoft", "Gelu")]))
    | family | operators |
    |---|---|
    | linear | Gemm |
    | fused | Gelu (com.microsoft) |
    """
    families: dict[str, set[str]] = {}
    for family, domain, name in operators:
        families.setdefault(family, set()).add(f"{name} ({domain})" if domain else name)
    return _table(("family", "operators"), [(family, ", ".join(sorted(names))) for family, names in families.items()])


def purposes_table(purposes: Iterable[tuple[str, str]]) -> str:
    """Return the table of reasons for which something is pinned.

    Parameters
    ----------
    purposes : iterable of (str, str)
        What the report says, and what it means.

    Examples
    --------
    >>> print(purposes_table([("graph input", "the user's business")]))
    | the report says | because |
    |---|---|
    | graph input | the user's business |
    """
    return _table(("the report says", "because"), purposes)


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [head, *rows]
    written = [f"| {first} | {second.replace('|', chr(92) + '|')} |" for first, second in lines]
    return "\n".join([written[0], "|---|---|", *written[1:]])
