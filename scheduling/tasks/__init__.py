"""Operations on a task: edit, cancel, retry, resend, call back."""
