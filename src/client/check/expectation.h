/* What a server makes of the bytes that it is sent: --expect. */
#pragma once

enum expectation {
    EXPECT_ANYTHING, /* nobody asked; where every byte is checked it means echo */
    EXPECT_ECHO,
    EXPECT_UPPER,
};
