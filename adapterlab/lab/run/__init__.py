"""Running a study: contests, learning-rate search, scheduler, executors, estimates and status."""
