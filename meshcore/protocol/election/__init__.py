"""Who is master, and how old everybody is: `scale` has the ages, `election` the choice."""
