"""The tests, in the folders of what they prove; fakes hold what several of them share."""
