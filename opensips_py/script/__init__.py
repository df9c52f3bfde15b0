"""The routing-script language: preprocessor, grammar, checker, compiler, pseudo-variables, transformations."""
