"""Does a policy say who it is, where it is asked and only there?"""
