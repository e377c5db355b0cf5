"""What users' calls become: checks, the plan, autograd and compiled graphs."""
