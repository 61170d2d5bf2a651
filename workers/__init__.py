"""Equal copies of one command on an engine; they divide their work by claims in a folder and need not know others."""
