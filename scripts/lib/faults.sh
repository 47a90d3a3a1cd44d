# Checks that go on after what they have found, so that all of it is seen; sourced, never run.
# Gives: FAULTS, fault.

FAULTS=0

# fault SENTENCE...: on the standard output. Who checks looks at FAULTS at the end.
fault() {
  printf 'fault: %s\n' "$*"
  FAULTS=$((FAULTS + 1))
}
