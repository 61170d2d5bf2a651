"""Anyone's predictions, judged by the rules that our own heads are judged by."""
