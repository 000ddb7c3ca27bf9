"""The decider: a policy turns the committee's tally into a target exposure, or says why it wants none."""
