"""`buildrunner dev`: the same build on one's own machine, on servers of its own, its page, and the published site over http."""
