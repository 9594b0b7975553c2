"""A policy as one JavaScript module without dependencies, for web pages and all that runs JavaScript."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from purerl.workbench.javascript import Tables, array_of, encoded
from purerl.workbench.javascript import source as statements
from purerl.workbench.straight_line import Program


def source(program: Program, about: str, carry_leaves: Sequence[np.ndarray]) -> str:
    """Return the JavaScript module of a policy; the arguments are those of `numpy_policy.source`.

    Raises:
        ConfigError: for a step that has no word here.
    """
    tables = Tables([], [])
    lines = statements(program, tables)
    obs, *carry = program.inputs
    action, *after = map(tables.word, program.outputs)
    head = [f"const x{obs.index} = {array_of(obs)}.from(obs);"]
    head += [f"const x{ref.index} = carry[{i}];" for i, ref in enumerate(carry)]
    tail = f"return [{action}, [{', '.join(after)}]];"
    out = program.outputs[0]
    return TEMPLATE.format(
        about=about,
        obs=f"{list(map(int, obs.shape[1:]))} {obs.dtype.name}",
        action=f"{list(map(int, out.shape[1:]))} {out.dtype.name}",
        tables=tables.source(),
        start=", ".join(encoded(leaf) for leaf in carry_leaves),
        body="\n".join(f"  {line}" for line in [*head, *lines, tail]),
    )


TEMPLATE = """\
// {about}
//
// Needs nothing else.
//
//   import {{ act, START }} from "./policy.mjs";
//   let carry = START, action;
//   [action, carry] = act(obs, carry);
//
// obs: a flat array of {obs}. action: a flat array of {action}, in the units of the environment.

{tables}
export const START = [{start}];

export function act(obs, carry = START) {{
{body}
}}
"""
