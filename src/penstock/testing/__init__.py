"""What tests and third parties build on: driver suites, a harness, a simulator, and a clock that is held in the hand."""
