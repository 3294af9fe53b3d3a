"""One class per collection of the engine; each turns the driver's errors into the domain's."""
