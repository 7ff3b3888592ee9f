"""Verdicts in another language: the same findings and values, told with other words."""

from typing import TypeVar

import msgspec

from farmhand_collector.report import evidence, explained_text, shared_text
from farmhand_collector.wire import CardVerdict, Evidence, FarmState, ScopeFinding

Told = TypeVar("Told", CardVerdict, ScopeFinding, FarmState)


def in_language(told: Told, language: str) -> Told:
    """The same in another language of the catalogue.

    Raises:
        UnknownLanguage: the catalogue is not written in it.
    """
    if isinstance(told, CardVerdict):
        said = [_of_card(shown, told, language) for shown in told.evidence]
        return msgspec.structs.replace(told, evidence=said)
    if isinstance(told, ScopeFinding):
        said = [_of_scope(shown, told.scope, language) for shown in told.evidence]
        return msgspec.structs.replace(told, evidence=said)
    cards = [in_language(card, language) for card in told.cards]
    findings = [in_language(finding, language) for finding in told.findings]
    return msgspec.structs.replace(told, cards=cards, findings=findings)


def _of_card(shown: Evidence, verdict: CardVerdict, language: str) -> Evidence:
    if verdict.state == "ok":
        # Of a card that is well, only what something wider explains is told.
        (name,) = shown.values.values()
        return Evidence(shown.finding, shown.values, explained_text(shown.finding, name, language))
    return evidence(shown.finding, shown.values, language)


def _of_scope(shown: Evidence, scope: str, language: str) -> Evidence:
    text = shared_text(shown.finding, scope, shown.values, language)
    return Evidence(shown.finding, shown.values, text)
