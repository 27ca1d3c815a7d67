"""luqum's `parse`, without what its generator of parsers (ply) says and writes when it is first imported.

ply makes luqum's tables at that import and keeps them beside luqum. Where it may not write there (installed by root,
run by somebody else) it would make them at every start, with seven lines of warnings on stderr about a grammar that is
not ours.
"""

from __future__ import annotations

from functools import partial

from ply import yacc

_loud = yacc.yacc
yacc.yacc = partial(_loud, debug=False, errorlog=yacc.NullLogger())
try:
    from luqum.thread import parse
finally:
    yacc.yacc = _loud

__all__ = ["parse"]
