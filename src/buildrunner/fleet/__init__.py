"""Find builds on Amazon ECS and AWS Batch, read the states of their tasks, and classify errors of AWS.

Modules are imported one by one: most need aiobotocore only once something is asked.
"""
