"""Election of a leader: the elector, the seat and the port of its engines. Imports no other room."""
