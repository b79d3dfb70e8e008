"""`python -m stylegan_hub`: the same as the command `stylegan-hub`."""

from stylegan_hub.cli import main

main()
