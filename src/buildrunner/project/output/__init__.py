"""Find the site in what a build wrote."""
