"""The mutants of all test files fit their sources and name tests that exist; `mutants.py` runs them."""

import mutants


def test_every_mutant_fits_its_source():
    found = mutants.mutants()
    assert len(found) > 100
    assert {mutant.name: reason for mutant in found if (reason := mutants.fault(mutant))} == {}


def test_every_mutant_changes_something():
    assert [mutant.name for mutant in mutants.mutants() if mutant.old == mutant.new] == []
