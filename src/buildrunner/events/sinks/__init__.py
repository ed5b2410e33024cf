"""Where events go: each sink follows the journal at its own pace."""
