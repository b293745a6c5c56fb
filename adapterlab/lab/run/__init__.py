"""What runs next and where: contests, learning-rate search, scheduler, executors."""
