"""The only door to django-q2: jobs, schedules, the allow-list, bulk operations."""
