"""The model card of a bundle: what it is, what it was shown, how good it is, where it ends."""

from __future__ import annotations

import json
from typing import Any

from agents.serve.novelty import OF_FLEET

Plain = dict[str, Any]


def model_card(manifest: Plain, worlds: str) -> str:
    """`MODEL_CARD.md`, from the bundle's own manifest and the training worlds in words; what it
    tells follows Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019)."""
    provenance, training = manifest["provenance"], manifest["training"]
    return f"""\
# {manifest["bundle"]}

A policy that says for every rig of a GPU fleet whether it should stay on its network or move to
another one. It was trained by reinforcement learning in a simulator and never saw a real payout.

## What it is

* An actor that treats rigs and networks as sets: any number of both, in any order, also networks
  that it was not trained on. A network is its published numbers and rules, and has no name to it.
* `policy.onnx` takes facts in physical units and a memory of five moving averages and returns
  orders; features, masks and the choice are inside. `policy.safetensors` holds the same weights,
  with the critic's, for training on.
* Code: commit {provenance["commit"] or "unknown"}; configuration {provenance["config_hash"]}, seed
  {provenance["seed"]}; weights of step {provenance["step"]}.

## Intended use

Hourly decisions for a fleet whose operator can state the facts of `snapshot.schema.json`, behind
the guardrails of this bundle. First in shadow mode, beside what decides today. Not for decisions
within minutes, not for buying or selling tokens, not where nobody watches.

## Training

Simulated worlds: {worlds}.

These are the ranges that {training["worlds"]} of them met in {training["hours"]} hours, widened.
Outside of them, or of the ranges that `manifest.json` has for each network, the tuned rule
`{manifest["rule"]["name"]}` decides in place of the policy.

{_ranges(training)}

## How good

{_scores(manifest["scores"])}

Simulated profit is not real profit: the worlds' numbers are dated defaults, and many of them are
assumptions, marked as such in their files.

## Parity with torch

{_parity(manifest["parity"])}

## Guardrails

They close networks before the policy is asked and stop moves after it; an operator can change
them, and each that acts says so.

{_guardrails(manifest["guardrails"])}

The tuned rule also decides once the policy has fallen behind it by the regret budget.

## Limits

* Estimates are believed. A network that publishes and does not pay keeps its rigs and may get more
  for as long as it publishes: the policy sees the last hour's earnings of each rig and cannot be
  counted on to leave for them, no guardrail compares the two, and the regret is of the estimates
  too. Who misses payouts puts the network on the deny list and takes the rigs off that are there,
  for the list only keeps others out; or sends as `estimate_usd` what was really paid for a unit of
  work, which moves the averages, and then the rigs, within days.
* The reasons beside a move (gain, entry cost, break-even, the token price at which it would flip)
  are the tuned rule's accounting of it, not what the network weighed: the policy itself may change
  its mind at another price. Where the two disagree on a move, its text says so. Of pay that is part
  in a token and part in USD, the price moves the share that it moved at the catalogue's date.
* It knows no contract, tax or counterparty; a network that must not be used belongs on the deny
  list.
* Rules and prices that no simulated world had are beyond it, even where no guardrail notices.

## Licence

MIT, as the code it comes from.
"""


def _ranges(training: Plain) -> str:
    lines = ["| of the fleet | low | high |", "|---|---|---|"]
    for name, (low, high) in training["fleet"].items():
        lines.append(f"| {OF_FLEET[name].meaning} | {low:.3g} | {high:.3g} |")
    return "\n".join(lines)


def _scores(scores: Plain) -> str:
    if not scores:
        return "The run has not been evaluated."
    return f"""\
In {scores["worlds"]} {scores["split"]} worlds of {scores["rigs"]} rigs and {scores["horizon_h"]} \
hours that no training saw, net USD per rig-day:

| this policy | the rule that did best in training ({scores["opponent"]}) | \
bound without foresight of leases | bound with perfect foresight |
|---|---|---|---|
| {scores["policy_usd_rig_day"]:.2f} | {scores["opponent_usd_rig_day"]:.2f} | \
{scores["bound_expected_usd_rig_day"]:.2f} | {scores["clairvoyant_usd_rig_day"]:.2f} |

Of the gap between the rule and perfect foresight it closes {_closed(scores, "gap_closed")}, of \
that to the nearer bound {_closed(scores, "gap_closed_expected")}. Verdict: {scores["verdict"]}. \
{scores["moves_rig_day"]:.2f} moves per rig and day."""


def _closed(scores: Plain, name: str) -> str:
    gap, low, high = (scores[f"{name}{end}"] for end in ("", "_low", "_high"))
    if None in (gap, low, high):
        return "a share that is not defined"
    return f"{gap:.0%} (95 % interval {low:.0%} to {high:.0%})"


def _parity(parity: Plain) -> str:
    lines = [
        "| rigs | decisions | compared | not compared | differing | largest difference of logits |",
        "|---|---|---|---|---|---|",
    ]
    for rigs, found in parity["rigs"].items():
        lines.append(
            f"| {rigs} | {found['decisions']} | {found['compared']} | {found['close']} | "
            f"{found['differing']} | {found['max_logit_difference']:.1e} |"
        )
    said = f"\n\nCompared is where torch's margin is over {parity['margin']:g} of probability."
    return "\n".join(lines) + said


def _guardrails(guardrails: Plain) -> str:
    return "\n".join(f"* `{name}`: {json.dumps(value)}" for name, value in guardrails.items())
