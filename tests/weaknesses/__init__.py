"""The 27 weaknesses of agno.md section 15, each tried on a server process of ours."""
