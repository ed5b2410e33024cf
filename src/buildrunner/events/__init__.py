"""Number every event once, keep it in the journal, and deliver it to sinks."""
