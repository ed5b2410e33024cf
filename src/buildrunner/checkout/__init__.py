"""Check out one commit of a repository, with submodules, LFS files and history."""
