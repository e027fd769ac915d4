//! The terminal: taken for frames, and given back as it was.

use std::io::{Stdout, Write, stdout};

use anyhow::{Context, Result};
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};
use tokio::sync::mpsc;

use super::frame::{Line, Size, Style};
use crate::leaving::told_to_end;

/// What came from the keyboard, or of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressed {
    /// Enough.
    Quit,
    /// The window has another size.
    Resized,
}

/// The terminal, until this is dropped.
pub struct Screen {
    out: Stdout,
    pressed: mpsc::UnboundedReceiver<Pressed>,
}

impl Screen {
    /// Takes the terminal.
    pub fn open() -> Result<Self> {
        enable_raw_mode().context("the terminal cannot be read key by key: use --once")?;
        let (tell, pressed) = mpsc::unbounded_channel();
        // From here on the terminal is given back whatever happens.
        let mut screen = Self { out: stdout(), pressed };
        execute!(screen.out, EnterAlternateScreen, Hide).context("the terminal cannot be taken")?;
        // It ends with the process: nothing but a key would wake it.
        std::thread::Builder::new()
            .name("isotick-keys".into())
            .spawn(move || {
                while let Ok(event) = crossterm::event::read() {
                    if let Some(pressed) = meaning(&event)
                        && tell.send(pressed).is_err()
                    {
                        return;
                    }
                }
            })
            .context("cannot start a thread")?;
        Ok(screen)
    }

    /// Its size now.
    pub fn size(&self) -> Result<Size> {
        let (width, height) = crossterm::terminal::size().context("the terminal has no size")?;
        Ok(Size { width: width.into(), height: height.into() })
    }

    /// Shows a frame.
    pub fn draw(&mut self, lines: &[Line]) -> Result<()> {
        let mut bytes = Vec::new();
        for (row, line) in (0u16..).zip(lines) {
            queue!(bytes, MoveTo(0, row))?;
            for (style, text) in &line.0 {
                dress(&mut bytes, *style)?;
                queue!(bytes, Print(text), SetAttribute(Attribute::Reset), ResetColor)?;
            }
            queue!(bytes, Clear(ClearType::UntilNewLine))?;
        }
        if let Ok(below) = u16::try_from(lines.len())
            && usize::from(below) < self.size()?.height
        {
            queue!(bytes, MoveTo(0, below), Clear(ClearType::FromCursorDown))?;
        }
        self.out.write_all(&bytes).and_then(|()| self.out.flush()).context("the terminal is gone")
    }

    /// The next key that means something, also a signal to end.
    pub async fn pressed(&mut self) -> Pressed {
        tokio::select! {
            pressed = self.pressed.recv() => pressed.unwrap_or(Pressed::Quit),
            _ = told_to_end() => Pressed::Quit,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = execute!(self.out, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

fn dress(bytes: &mut Vec<u8>, style: Style) -> Result<()> {
    match style {
        Style::Plain => {}
        Style::Head => queue!(bytes, SetAttribute(Attribute::Bold))?,
        Style::Dim => queue!(bytes, SetAttribute(Attribute::Dim))?,
        Style::Good => queue!(bytes, SetForegroundColor(Color::Green))?,
        Style::Warn => queue!(bytes, SetForegroundColor(Color::Yellow))?,
        Style::Bad => queue!(bytes, SetForegroundColor(Color::Red))?,
    }
    Ok(())
}

fn meaning(event: &Event) -> Option<Pressed> {
    match event {
        Event::Resize(..) => Some(Pressed::Resized),
        Event::Key(KeyEvent { code, modifiers, kind, .. }) if *kind != KeyEventKind::Release => {
            let interrupt = modifiers.contains(KeyModifiers::CONTROL)
                && matches!(code, KeyCode::Char('c' | 'd'));
            let quit = matches!(code, KeyCode::Char('q' | 'Q') | KeyCode::Esc);
            (quit || interrupt).then_some(Pressed::Quit)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode, modifiers: KeyModifiers) -> Option<Pressed> {
        meaning(&Event::Key(KeyEvent::new(code, modifiers)))
    }

    #[test]
    fn some_keys_end_it_and_others_mean_nothing() {
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(key(code, KeyModifiers::NONE), Some(Pressed::Quit));
        }
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Pressed::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(meaning(&Event::Resize(1, 1)), Some(Pressed::Resized));
        assert_eq!(meaning(&Event::FocusGained), None);
    }
}
