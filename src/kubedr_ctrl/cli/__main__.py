"""`python -m kubedr_ctrl.cli`."""

from kubedr_ctrl.cli.main import main

main(prog_name="kubedrctl")
