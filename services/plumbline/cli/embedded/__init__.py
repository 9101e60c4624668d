"""`plumbline up`: the whole platform as child processes of one supervisor on one machine."""
