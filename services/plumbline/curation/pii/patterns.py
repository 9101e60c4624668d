"""The recognizer of everything that has a pattern: one scan of a text serves all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from plumbline.curation.pii import contact, finance, identity, network, secrets
from plumbline.curation.pii.scan import Scan
from plumbline.curation.pii.spans import Span

Finder = Callable[[Scan], Iterator[Span]]


_FINDERS: dict[str, tuple[Finder, ...]] = {
    "PRIVATE_KEY": (secrets.find_private_keys,),
    "API_KEY": (secrets.find_api_keys,),
    "URL_CREDENTIALS": (network.find_credentials,),
    "EMAIL": (contact.find_emails,),
    "IBAN": (finance.find_ibans,),
    "NATIONAL_ID": (identity.find_national_ids,),
    "US_SSN": (identity.find_ssns,),
    "BANK_CARD": (finance.find_cards,),
    "IP_ADDRESS": (network.find_ipv4, network.find_ipv6),
    "MAC_ADDRESS": (network.find_macs,),
    "PASSPORT": (identity.find_passports,),
    "LICENCE_PLATE": (identity.find_plates,),
    "DATE_OF_BIRTH": (identity.find_birth_dates,),
}
PATTERN_TYPES = frozenset(_FINDERS) | {"PHONE"}


class PatternRecognizer:
    """Numbers, addresses and keys by their patterns, check digits and context.

    Args:
        types: what is looked for; types that have no pattern are passed over.
        phone_regions: regions whose national telephone formats are looked for.
    """

    def __init__(self, types: Sequence[str], phone_regions: tuple[str, ...]) -> None:
        phones = partial(contact.find_phones, regions=phone_regions)
        finders: dict[str, tuple[Finder, ...]] = {**_FINDERS, "PHONE": (phones,)}
        self.types = PATTERN_TYPES & set(types)
        self._finders = [find for name in finders if name in types for find in finders[name]]

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        found = []
        for text in texts:
            scan = Scan.of(text)
            found.append([span for find in self._finders for span in find(scan)])
        return found
