//! Filters: comparisons over value and key columns with `and`, `or`, `not`, `in`.

/// A filter with names resolved and literals exact. Comparisons with null are null; `and`, `or`,
/// `not` follow three-valued logic; a tick passes iff the result is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Both.
    And(Box<Expr>, Box<Expr>),
    /// Either.
    Or(Box<Expr>, Box<Expr>),
    /// Not.
    Not(Box<Expr>),
    /// A value column compared with an integer at the column's own scale. (A literal with more
    /// digits than the scale is resolved to an equivalent comparison, or to [`Expr::Constant`].)
    Compare(usize, Comparison, i128),
    /// Two value columns compared as numbers; each side is multiplied by its power of ten first,
    /// so that both stand at one scale.
    CompareColumns((usize, u8), Comparison, (usize, u8)),
    /// The event time compared with nanoseconds UTC.
    CompareTime(Comparison, i128),
    /// A key component compared, by bytes, with text.
    CompareKey(usize, Comparison, String),
    /// A value column equals one of these integers at its scale (sorted).
    In(usize, Vec<i64>),
    /// A key component equals one of these texts (sorted).
    KeyIn(usize, Vec<String>),
    /// A value column is null; with the flag false: is not null.
    IsNull(usize, bool),
    /// The constant, true where the column (if any) is not null, else null: what a comparison
    /// with an unrepresentable literal comes to.
    Constant(Option<usize>, bool),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Comparison {
    /// Whether the comparison holds for this ordering of left to right.
    pub fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::Le => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::Ge => ordering.is_ge(),
        }
    }
}
