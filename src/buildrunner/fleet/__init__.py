"""Builds that run on Amazon ECS or AWS Batch: how their tasks are found, what AWS says of them, and which refusals pass.

Modules are imported one by one: most need aiobotocore only once something is asked.
"""
