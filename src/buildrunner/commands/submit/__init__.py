"""Run one build on Amazon ECS or AWS Batch: start it, follow its log, stop it."""
