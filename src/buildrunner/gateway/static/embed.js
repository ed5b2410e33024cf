// Placeholder of <build-log>.
