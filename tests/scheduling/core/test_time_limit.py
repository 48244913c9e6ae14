from scheduling.core.time_limit import TimeLimit


def test_time_limit_is_over_after_its_seconds_and_can_be_extended():
    limit = TimeLimit(60)
    assert not limit.is_over
    assert not limit.is_over_by(2)
    over = TimeLimit(-1)
    assert over.is_over
    assert over.is_over_by(0.5)
    assert not over.is_over_by(2)
    over.extend_to(60)
    assert not over.is_over
