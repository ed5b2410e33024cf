"""What both of our HTTP servers need below their routes: a socket, bounds on connections and on what visitors can take."""
