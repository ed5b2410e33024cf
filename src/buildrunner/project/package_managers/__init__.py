"""Know npm, pnpm, Yarn and Bun: lockfiles, commands, and what to try after a failure."""
