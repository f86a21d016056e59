"""What a learner says that its updates take."""

import pytest

from jsrl.core.errors import UserError
from jsrl.core.protocols import Consumes, DataNeeds


def test_updates_are_counted_for_each_network():
    needs = DataNeeds(Consumes.TRANSITIONS, (("critic",),) * 20 + (("critic", "actor"),))
    assert needs.updates("critic") == 21
    assert needs.updates("actor") == 1
    assert needs.updates("value") == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((Consumes.ROLLOUTS, (("actor",),), 3), "n_step=3 is for learners from n-step transitions"),
        ((Consumes.TRANSITIONS, (("actor",),), 2), "this learner takes single transitions"),
        ((Consumes.N_STEP, (("critic",),), 0), "n_step=0 must be at least 1"),
        ((Consumes.TRANSITIONS, ()), "at least one minibatch"),
        ((Consumes.TRANSITIONS, (("actor",), ())), "at least one minibatch"),
    ],
)
def test_needs_that_contradict_themselves_are_refused_in_one_line(arguments, words):
    with pytest.raises(UserError, match=words) as error:
        DataNeeds(*arguments)
    assert "\n" not in str(error.value)
