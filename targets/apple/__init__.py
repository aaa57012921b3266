"""What the targets for Apple's devices share: facts about chips and their Neural Engine, as data with sources, and the
passes that re-author a graph for that engine."""
